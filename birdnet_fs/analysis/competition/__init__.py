"""Submissions to BirdCLEF competitions.

rows.py           the rows and columns that a table of the competition asks for
table.py          scores of windows -> the submission, complete at any time
folder.py         the competitions, and the rows and recordings of a folder of one
class_names.py    classes of the competition <-> classes of a model, by label, scientific or common name
budget.py         a time budget and the expected end
submit.py         a run, ensemble or exported file -> submission
predict_trees.py  a tree classifier on motif clips -> submission
"""
