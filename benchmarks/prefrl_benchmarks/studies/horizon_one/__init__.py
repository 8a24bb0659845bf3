"""Good or bad at single steps: as an advantage, as a prediction to act on, and as a reward with two horizons."""
