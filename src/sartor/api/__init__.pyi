from .bundle_judging import evaluate_bundle as evaluate_bundle
from .calibrating import (
    calibrate as calibrate,
)
from .calibrating import (
    calibration_of as calibration_of,
)
from .checking import check as check
from .comparing import (
    Comparison as Comparison,
)
from .comparing import (
    compare as compare,
)
from .composing import (
    compose_recipe as compose_recipe,
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
from .exporting import (
    Exported as Exported,
)
from .exporting import (
    export as export,
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
from .kept_calibration import calibration_in_use as calibration_in_use
from .looking import (
    load as load,
)
from .looking import (
    summary as summary,
)
from .looks import looks_of as looks_of
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
    evaluation_on as evaluation_on,
)
from .other_data import (
    is_own as is_own,
)
from .planning import plan_work as plan_work
from .predicting import (
    Input as Input,
)
from .predicting import (
    Picture as Picture,
)
from .predicting import (
    Prediction as Prediction,
)
from .predicting import (
    Unreadable as Unreadable,
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
    predict_stream as predict_stream,
)
from .predicting_many import (
    PredictedFile as PredictedFile,
)
from .predicting_many import (
    predict_to_file as predict_to_file,
)
from .predictor import Predictor as Predictor
from .probing import (
    RangeTest as RangeTest,
)
from .probing import (
    find_learning_rate as find_learning_rate,
)
from .probing import (
    overfit_batch as overfit_batch,
)
from .promises import with_promises as with_promises
from .proving import prove as prove
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
from .sites import (
    Site as Site,
)
from .sites import (
    export_site as export_site,
)
from .spreading import work as work
from .tracing import (
    Trace as Trace,
)
from .tracing import (
    trace as trace,
)
from .verifying import Check as Check
from .verifying import Verification as Verification
from .verifying import verify as verify
from .work_progress import WorkStatus as WorkStatus
from .work_progress import work_status as work_status
from .working import Worked as Worked
