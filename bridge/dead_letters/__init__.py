"""Requests that were given up: what they tell, which are wanted, and another try.

letter         the story of one, and the request that it was
forms          requests of other dialects among them
destinations   where they may go back to
filter         which are wanted
queue          finds, replays and deletes them
"""
