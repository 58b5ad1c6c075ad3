"""Metrics files and self-contained HTML pages from scores, runs, folds and studies.

evaluate     scores -> metrics.json: AUROC with its interval, per class, confusion
held_out     score the clips that a run or an ensemble held out
notebook     train and test an experiment as one object, bfs.Trainer
stored_scores  whether stored scores are of the model beside them
labeled      score labeled recordings with any model
out_of_fold  the folds of a cross-validation as one table
few_shot     episodes over held-out classes
study        best.py, study.csv and study.html of a search
augment      a page of augmented training clips
figures      confusion matrix, training curves and search figures as inline SVG
page         one self-contained HTML file from a template
"""
