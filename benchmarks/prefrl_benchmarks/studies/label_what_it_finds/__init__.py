"""Label what an agent finds that is let loose on a frozen reward model, and compare with normal queries."""
