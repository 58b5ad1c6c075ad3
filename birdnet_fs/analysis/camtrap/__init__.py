"""Camtrap DP 1.0.2, https://camtrap-dp.tdwg.org: a data package of deployments, media and observations.

locations  where the recorders stood
package    an analysis -> datapackage.json, deployments.csv, media.csv, observations.csv
"""
