"""Measures of what a model said and found: on the host, in NumPy, of whole answers rather than of steps."""

from seqjax.metrics.geometry import HullScores as HullScores
from seqjax.metrics.geometry import area_coverage as area_coverage
from seqjax.metrics.geometry import hull_scores as hull_scores
from seqjax.metrics.geometry import is_simple as is_simple
from seqjax.metrics.geometry import polygon_area as polygon_area
from seqjax.metrics.geometry import same_polygon as same_polygon
from seqjax.metrics.geometry import same_triangulation as same_triangulation
from seqjax.metrics.geometry import tour_length as tour_length
from seqjax.metrics.geometry import triangle_coverage as triangle_coverage
from seqjax.metrics.text import Score as Score
from seqjax.metrics.text import alignment_error_rate as alignment_error_rate
from seqjax.metrics.text import bleu as bleu
from seqjax.metrics.text import chrf as chrf
from seqjax.metrics.text import exact_match as exact_match
from seqjax.metrics.text import perplexity as perplexity
