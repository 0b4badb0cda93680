"""Whether the tables stay as small as what they hold, with autovacuum as PostgreSQL ships it.

load      requests at an even pace through the real statements: insert, claim, renew, publish, settle, prune
look      what the server says about its tables meanwhile
report    one column for each quarter of the requests
"""
