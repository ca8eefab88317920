/**
 * The mode "Brain metastases": the viewer's own longitudinal mode with our panel beside it.
 *
 * It is derived from the stock mode at run time, so it follows the viewer it runs in.
 */
import { currentLanguage, translator } from './i18n';
import { MODE_ID, PANEL_ID, ROUTE, SEGMENTATION_PANEL_ID, TOOLBAR_BUTTON_ID, TOOLBAR_CUSTOMIZATION } from './id';

const BASE_MODE = '@ohif/mode-longitudinal';
const PRIMARY_TOOLS = ['MeasurementTools', 'Zoom', 'Pan', 'WindowLevel', 'Capture', 'Layout', 'Crosshairs', 'MoreTools'];

interface Layout {
  props: { rightPanels: string[] };
}
interface ModeInstance {
  toolbarButtons: object[];
  toolbarSections: object[];
  routes: { layoutInstance: Layout }[];
  onModeEnter: (this: unknown, context: ModeContext) => void;
  onModeExit: (this: unknown, context: ModeContext) => void;
}
interface ModeContext {
  commandsManager: { run: (command: string) => unknown };
}
interface FactoryContext {
  loadModules: (names: string[]) => Promise<{ modeInstance: ModeInstance }[]>;
}

async function modeFactory({ loadModules }: FactoryContext): Promise<object | null> {
  const [base] = await loadModules([BASE_MODE]);
  const stock = base?.modeInstance;
  const route = stock?.routes[0];
  if (!stock || !route) return null;
  const layout = route.layoutInstance;
  return {
    ...stock,
    id: MODE_ID,
    routeName: ROUTE,
    displayName: translator(currentLanguage()).t('panel.title'),
    hide: false,
    modeModalities: ['MR'],
    toolbarButtons: [
      ...stock.toolbarButtons,
      { $reference: 'cornerstone.segmentationToolbarButtons' },
      { $reference: TOOLBAR_CUSTOMIZATION },
    ],
    toolbarSections: [
      ...stock.toolbarSections,
      { $reference: 'cornerstone.segmentationToolbarSections' },
      { primary: [TOOLBAR_BUTTON_ID, ...PRIMARY_TOOLS] },
    ],
    toolGroupAdditions: {
      default: [{ $reference: 'cornerstone.segmentationTools' }],
      mpr: [{ $reference: 'cornerstone.segmentationTools' }],
    },
    modeCustomizations: {
      'panelSegmentation.disableEditing': false,
      // The service measures. OHIF's own statistics come a second after a stroke and write the
      // list of segments back as it was before: a lesion begun meanwhile would be lost.
      'panelSegmentation.disableUpdateSegmentationStats': true,
    },
    onModeEnter(context: ModeContext) {
      stock.onModeEnter.call(this, context);
      context.commandsManager.run('metiaEnter');
    },
    onModeExit(context: ModeContext) {
      context.commandsManager.run('metiaLeave');
      stock.onModeExit.call(this, context);
    },
    routes: [
      {
        ...route,
        path: ROUTE,
        layoutInstance: {
          ...layout,
          props: {
            ...layout.props,
            rightPanelClosed: false,
            rightPanelInitialExpandedWidth: 360,
            rightPanels: [PANEL_ID, SEGMENTATION_PANEL_ID, ...layout.props.rightPanels.slice(1)],
          },
        },
      },
    ],
  };
}

/** A viewer without the stock mode gets no mode of ours, but starts. */
async function safeModeFactory(context: FactoryContext): Promise<object | null> {
  try {
    return await modeFactory(context);
  } catch (error) {
    console.error('The mode of MetIA is not available.', error);
    return null;
  }
}

export default { id: MODE_ID, modeFactory: safeModeFactory };
