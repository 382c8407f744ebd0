"""Runs SQL statements on a SQLite database: DATABASE STATEMENTS. Prints true."""
import json
import sqlite3
import sys

database, statements = sys.argv[1:]
connection = sqlite3.connect(database)
connection.executescript(statements)
connection.commit()
print(json.dumps(True))
