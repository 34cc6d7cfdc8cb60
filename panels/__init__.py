"""The parts of the pages: each draws one thing and asks `cvcore` for it."""
