"""The crew of the review: agents as plain functions over plain values; none of them knows about Reprise runs."""
