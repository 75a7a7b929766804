"""What trained networks are measured by, and its reports."""
