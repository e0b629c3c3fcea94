"""What things are: pure values and functions; no I/O, no asyncio."""
