"""What happens next: plans and the faces that build them. Everything here becomes a run of the one engine."""
