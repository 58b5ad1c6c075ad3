"""Training in episodes (Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning").

objective   the loss of an episode, and the prototypes of the trained classes as weights of the head
items       validation and test episodes over clips or parts of clips
evaluation  accuracy and loss over episodes, for history.csv and the test
"""
