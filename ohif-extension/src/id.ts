/** The names under which the viewer knows the extension, its mode and its panel. */
export const EXTENSION_ID = '@metia/extension-brainmets';
export const MODE_ID = '@metia/mode-brainmets';
export const ROUTE = 'brainmets';
export const PANEL_NAME = 'brainmets';
export const PANEL_ID = `${EXTENSION_ID}.panelModule.${PANEL_NAME}`;
/** Parameter of the address: the lesion to go to when a study is opened. */
export const LESION_PARAMETER = 'metiaLesion';
export const TOOLBAR_BUTTON_ID = 'MetIA';
export const TOOLBAR_BUTTON_TYPE = 'metia.runButton';
export const TOOLBAR_CUSTOMIZATION = 'metia.toolbarButtons';
/** The viewer's own panel with brush, eraser and the list of segments. */
export const SEGMENTATION_PANEL_ID = '@ohif/extension-cornerstone.panelModule.panelSegmentationWithToolsLabelMap';
