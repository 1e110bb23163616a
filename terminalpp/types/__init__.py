"""The vocabulary of Terminal++: ids, states, events, errors and limits. Imports nothing of ours."""
