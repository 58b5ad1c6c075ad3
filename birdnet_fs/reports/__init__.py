"""Scores in, numbers people can trust and one page they can read out.

evaluate   scores -> metrics.json: AUROC with its interval, per class, confusion
figures    confusion matrix and training curves as inline SVG
page       one self-contained HTML file
labeled   a model and labeled recordings -> scores
"""
