"""Text tables that people and programs write: their encoding, separator, quotation marks, columns and times.

reading.py  a table in any common encoding, row by row, each row as cells of text or with its problem
columns.py  what a column holds, from its name
times.py    times in cells, as seconds or samples
"""
