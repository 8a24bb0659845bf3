"""The reward model: networks, ensemble, loss, and the learner that fits it to labels."""
