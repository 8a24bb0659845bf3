"""When to say "I do not know": a bandit of questions of which an agent knows some."""
