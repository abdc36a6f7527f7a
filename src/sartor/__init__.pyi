from .api import (
    Comparison as Comparison,
)
from .api import (
    Embedding as Embedding,
)
from .api import (
    Explanation as Explanation,
)
from .api import (
    Exported as Exported,
)
from .api import (
    PredictedFile as PredictedFile,
)
from .api import (
    Prediction as Prediction,
)
from .api import (
    Predictor as Predictor,
)
from .api import (
    Report as Report,
)
from .api import (
    Run as Run,
)
from .api import (
    SeedRuns as SeedRuns,
)
from .api import (
    Trace as Trace,
)
from .api import (
    Unreadable as Unreadable,
)
from .api import (
    WorkStatus as WorkStatus,
)
from .api import (
    check as check,
)
from .api import (
    compare as compare,
)
from .api import (
    embed as embed,
)
from .api import (
    evaluate as evaluate,
)
from .api import (
    explain as explain,
)
from .api import (
    export as export,
)
from .api import (
    find_learning_rate as find_learning_rate,
)
from .api import (
    fit as fit,
)
from .api import (
    fit_seeds as fit_seeds,
)
from .api import (
    load as load,
)
from .api import (
    overfit_batch as overfit_batch,
)
from .api import (
    plan_work as plan_work,
)
from .api import (
    predict as predict,
)
from .api import (
    predict_stream as predict_stream,
)
from .api import (
    predict_to_file as predict_to_file,
)
from .api import (
    report as report,
)
from .api import (
    resume as resume,
)
from .api import (
    summary as summary,
)
from .api import (
    trace as trace,
)
from .api import (
    verify as verify,
)
from .api import (
    work as work,
)
from .api import (
    work_status as work_status,
)
from .console.progress import PlainProgress as PlainProgress
from .data.dataset import (
    Dataset as Dataset,
)
from .data.dataset import (
    Sample as Sample,
)
from .errors import (
    Interrupted as Interrupted,
)
from .errors import (
    SartorError as SartorError,
)
from .errors import (
    SartorWarning as SartorWarning,
)
from .evaluation.metrics import Evaluation as Evaluation
from .inspection.check.report import CheckReport as CheckReport
from .models.summary import Summary as Summary
from .recipe import (
    Recipe as Recipe,
)
from .recipe import (
    load_recipe as load_recipe,
)
