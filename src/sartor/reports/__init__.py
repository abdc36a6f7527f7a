"""What people look at: figures, text and pages."""
