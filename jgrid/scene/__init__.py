"""Scenes: cameras, captures, rendering, the task of fitting photographs, seeing the result."""
