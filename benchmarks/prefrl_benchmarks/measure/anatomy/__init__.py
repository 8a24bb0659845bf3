"""What a run's labels teach reward models: accuracy by number of labels, and predicted rewards along whole games."""
