"""What a browser keeps of the work in its tabs, so that a reload or a restart of the server brings it back."""
