"""The machine: processes, memory, devices."""
