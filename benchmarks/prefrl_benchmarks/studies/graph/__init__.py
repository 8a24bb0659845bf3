"""Five states, three episodes: what each way to learn from them makes of the same data."""
