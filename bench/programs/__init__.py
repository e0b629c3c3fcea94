"""What benches run in processes of their own: `python -m bench.programs.NAME …`."""
