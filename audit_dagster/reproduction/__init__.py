"""Recorded operations become a plan, and the plan becomes a bash script that runs them again."""
