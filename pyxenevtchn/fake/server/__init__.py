"""The server of ``fake:unix:PATH``, and its clients."""
