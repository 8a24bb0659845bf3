"""What the bad labels are worth: imitate the good, avoid the bad, or both."""
