"""Shapes that several files agree on. B batch, D feature size, C classes, K centers per class.

A name is the tensor's kind and its axes; within one call the same letter is the same size.
"""

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

Images = Float[Tensor, "B channels height width"]  # as an encoder takes them
Features = Float[Tensor, "B D"]  # what an encoder returns, any length
Lengths = Float[Tensor, " B"]  # of features, 0 or more
Labels = Int[Tensor, " B"]  # true class indices, int64
Logits = Float[Tensor, "B C"]  # what cross-entropy takes
Loss = Float[Tensor, ""]  # one number, with its graph
CosineTable = Float[Tensor, "B C"]  # every feature against every class, -1 to 1
Choices = Bool[Tensor, "B C"]  # for which of these something holds
Ranks = UInt8[Tensor, "B C"]  # for each of these one of its K columns in a table, from 0
Table = Float[Tensor, "B rows"]  # every feature against every vector of a weight: C of them, or C*K
Cosines = Float[Tensor, " B"]  # one cosine per sample, to its own class; also any line of cosines
Rows = Float[Tensor, "*rows D"]  # vectors along the last axis
