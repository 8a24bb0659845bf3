"""Mode collapse: what optimising a learned reward does to the variety of behaviour."""
