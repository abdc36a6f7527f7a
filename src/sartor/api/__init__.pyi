from .calibrating import (
    saved_temperature as saved_temperature,
)
from .checking import check as check
from .comparing import (
    Comparison as Comparison,
)
from .comparing import (
    compare as compare,
)
from .explaining import (
    Explanation as Explanation,
)
from .explaining import (
    explain as explain,
)
from .explaining import (
    explanations_figure as explanations_figure,
)
from .fitting import (
    RangeTest as RangeTest,
)
from .fitting import (
    compose_recipe as compose_recipe,
)
from .fitting import (
    find_learning_rate as find_learning_rate,
)
from .fitting import (
    overfit_batch as overfit_batch,
)
from .judging import (
    choices_of as choices_of,
)
from .judging import (
    evaluate as evaluate,
)
from .judging import (
    evaluation_of as evaluation_of,
)
from .judging import (
    mistakes_figure as mistakes_figure,
)
from .judging import (
    predictions_of as predictions_of,
)
from .looking import (
    load as load,
)
from .looking import (
    summary as summary,
)
from .mapping import (
    Embedding as Embedding,
)
from .mapping import (
    embed as embed,
)
from .notes import Sink as Sink
from .opened import load_checkpoint as load_checkpoint
from .other_data import (
    data_at as data_at,
)
from .other_data import (
    is_own as is_own,
)
from .other_data import (
    predictions_on as predictions_on,
)
from .predicting import (
    Picture as Picture,
)
from .predicting import (
    Prediction as Prediction,
)
from .predicting import (
    inputs as inputs,
)
from .predicting import (
    inputs_figure as inputs_figure,
)
from .predicting import (
    predict as predict,
)
from .predicting import (
    predict_readable as predict_readable,
)
from .predictor import Predictor as Predictor
from .reporting import (
    Report as Report,
)
from .reporting import (
    report as report,
)
from .run import (
    Run as Run,
)
from .run import (
    fit as fit,
)
from .run import (
    resume as resume,
)
from .seeds import (
    SeedRuns as SeedRuns,
)
from .seeds import (
    fit_seeds as fit_seeds,
)
from .tracing import (
    Trace as Trace,
)
from .tracing import (
    trace as trace,
)
