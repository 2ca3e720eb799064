"""Events as commands show them: where they come from, the loop, the display."""
