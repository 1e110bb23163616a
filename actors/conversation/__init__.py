"""Conversations: what a person and a team say and do, one turn after the other."""
