"""Events in commands: their sources, the loop, the display."""
