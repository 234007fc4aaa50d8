from rdlib.widgets.explore import DefectExplorer as DefectExplorer
from rdlib.widgets.explore import defect_explorer as defect_explorer
from rdlib.widgets.interactive import InteractiveModel as InteractiveModel
from rdlib.widgets.interactive import Settings as Settings
from rdlib.widgets.interactive import View as View
from rdlib.widgets.interactive import weighted_map as weighted_map
from rdlib.widgets.paint import DrawDefect as DrawDefect
from rdlib.widgets.paint import draw_defect as draw_defect
