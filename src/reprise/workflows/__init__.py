"""What happens next: plans, the faces that build them, and schedules. Everything here becomes a run of the one engine."""
