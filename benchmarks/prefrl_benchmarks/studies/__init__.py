"""Studies: experiments with the claim that they test, the outcome that is expected, and their analysis."""
