"""The commands: a module each, loaded when it is asked for, and what only one of them needs."""
