"""The GPU renderer: OpenGL on EGL, without a display."""
