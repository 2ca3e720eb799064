"""The commands, a module each, loaded when it is used; and the parts that only one needs."""
