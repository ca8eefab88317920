/**
 * Configuration of the viewer, served as /app-config.js.
 *
 * It is a function, so that a missing or broken extension leaves the plain viewer
 * instead of a blank page: each part is imported in a try of its own.
 */
const toLogin = () => {
  const here = window.location.pathname + window.location.search;
  window.location.assign(`/login?next=${encodeURIComponent(here)}`);
};

window.config = async ({ peerImport }) => {
  const extensions = [];
  const modes = [];
  try {
    const extension = await peerImport('/metia-ext/extension.js');
    if (!extension?.id) throw new Error('the file has no extension in it');
    const mode = await peerImport('/metia-ext/mode.js');
    if (!mode?.id) throw new Error('the file has no mode in it');
    extensions.push([extension, { apiBase: '/api/v1' }]);
    modes.push(mode);
  } catch (error) {
    console.error('MetIA is not available, the plain viewer starts without it.', error);
  }
  return {
    name: 'config/metia.js',
    routerBasename: null,
    showStudyList: true,
    extensions,
    modes,
    groupEnabledModesFirst: true,
    disableConfirmationPrompts: true,
    measurementTrackingMode: 'none',
    investigationalUseDialog: { option: 'never' },
    customizationService: {
      // The guided tour of the stock modes would cover the panel at the first visit.
      global: { 'ohif.tours': { $set: [] } },
    },
    maxNumberOfWebWorkers: 3,
    showWarningMessageForCrossOrigin: true,
    showCPUFallbackMessage: false,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
    httpErrorHandler: (request) => {
      if (request?.status === 401) toLogin();
    },
    defaultDataSourceName: 'orthanc',
    dataSources: [
      {
        namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
        sourceName: 'orthanc',
        configuration: {
          friendlyName: 'Orthanc',
          name: 'orthanc',
          wadoUriRoot: '/wado',
          qidoRoot: '/dicom-web',
          wadoRoot: '/dicom-web',
          qidoSupportsIncludeField: true,
          imageRendering: 'wadors',
          thumbnailRendering: 'wadors',
          enableStudyLazyLoad: true,
          supportsFuzzyMatching: false,
          supportsWildcard: true,
          dicomUploadEnabled: false,
          omitQuotationForMultipartRequest: true,
          bulkDataURI: { enabled: true, relativeResolution: 'studies' },
          // What a user draws and saves by hand: OHIF's default would be LABELMAP + RLE.
          segmentation: { store: { defaultMode: 'bitmap', transferSyntaxUID: '1.2.840.10008.1.2.1' } },
        },
      },
    ],
  };
};
