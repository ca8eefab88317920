"""What the words of a series description say, in English, French and German.

``read_wording`` turns free text (series description, protocol name) into facts: which
kinds of image it names, whether it says that contrast agent was given, which part of
the body. Words are matched whole, never inside other words ("POSTERIOR" is not "POST"),
whatever their case, accents, separators and glued digits ("t1_mprage_sag_p2_iso_Gd").
Pure, total (no text makes it raise), and silent: the text itself, which may hold a
name, is never part of the answer.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KIND_WORDS: dict[str, str] = {
    "localizer": "loc localizer localiser localizador lokalizer lokalisator scout "
    "survey reperage pilot aahead aahscout smartbrain 3plane 3pl 3plan triplan "
    "topogramm",
    "screenshot": "screenshot screen capture report summary mobiview hardcopy",
    "subtraction": "sub subs subtr subtract subtraction subtracted soustraction soustr "
    "subtraktion minus subtrahiert",
    "spectroscopy": "mrs spectro spectroscopy spectroscopie spektroskopie press csi "
    "svs mrsi choline",
    "perfusion": "perf perfusion perfusie dsc dce cbv rcbv relcbv cbf rcbf relcbf mtt "
    "ttp tmax asl pcasl pasl ktrans pwi dyn dynamic dynamique dynamisch dynamics twist "
    "tricks pbp gbp leakage",
    "diffusion": "dwi dti diff diffusion adc eadc trace tracew dwibs ivim tensor "
    "tenseur resolve colfa noddi dki exponential",
    "functional": "bold fmri rest resting epi task mosaic moco evaseries",
    "angiography": "mra cemra tof angio angiography angiographie mrv venography "
    "venographie arm trance trances inhance willis carotid carotide carotides phlebo "
    "polygone",
    "fieldmap": "fieldmap fieldmapping b0map b1map shim calibration calib asset "
    "refscan prescan noise",
    "map": "t1map t2map map maps mapping molli t1rho relaxometry cest apt elastography "
    "ute zte cine flow",
    "t2star": "t2star t2s t2etoile swi swan swip swiphase qsm hemo hemosiderin medic "
    "merge venobold susceptibility fedecho",
    "flair": "flair darkfluid tirm spcir",
    "stir": "stir dir psir",
    "t2": "t2 t2w t2wi t2tse t2fse haste ssfse ciss fiesta drive trufi bssfp balance "
    "frfse",
    "pd": "pd pdw dp rho proton protons densite",
    "t1": "t1 t1w t1wi t1c t1ce t1gd cet1 mprage bravo spgr fspgr irspgr irfspgr vibe "
    "lava thrive ethrive tfe ttfe flash turboflash tfl mp2rage efgre3d",
}
"""Words of each kind of image, the kind that wins first."""

CONTRAST_WORDS = _words(
    "gado gadolinium gadolinio gad gd gdt1 gadavist gadovist dotarem prohance "
    "magnevist multihance clariscan vueway elucirem omniscan gadobutrol "
    "gadoterate gadoterat gadopiclenol gadoteridol gbca ce cet1 km inj injecte "
    "injectee injected injection injektion t1c t1ce t1gd contrast contraste "
    "kontrast kontrastmittel enhanced enhancement rehausse mdc pdc"
)
TIMING_WORDS = _words(
    "post apres nach after late delayed delay tardif tardive spat verzogert"
)
NO_CONTRAST_WORDS = _words(
    "pre sans nativ native natif nativ ohne without wo unenhanced avant vor "
    "before precontrast pregd pregado noncontrast nongd ungespritzt sin senza sem "
    "zonder utan avt"
)
NEGATORS = _words(
    "sans ohne without wo no non not pre avant vor before kein keine pas nicht hors "
    "prior sin senza sem zonder utan avt"
)
BODY_HEAD = _words(
    "head brain cerebrum crane cranio cranium cranial cranien cerebral cerebrale "
    "cerveau encephale encephalon encephalique schaedel schadel kopf hirn gehirn "
    "tete neuro skull neurocranium neurokranium cabeza craneo headneck"
)
BODY_PART_OF_HEAD = _words(
    "iac iam cai rocher rochers pituitary hypophyse hypophysis hypophysaire sella "
    "selle orbit orbits orbite orbites orbita felsenbein tmj atm sinus"
)
BODY_OTHER = _words(
    "spine spinal rachis rachidien wirbelsaule wirbelsaeule wbs ws hws bws lws "
    "cspine tspine lspine cervical cervicale lumbar lombaire lumbal lendenwirbel "
    "thorax thoracic thoracique dorsal chest abdomen abdominal pelvis pelvic "
    "pelvien bassin becken knee genou knie shoulder epaule schulter breast sein "
    "seins mamma mammo liver foie leber hepatic prostate prostata heart coeur "
    "herz cardiac cardiaque neck cou hals hip hanche hufte wrist poignet ankle "
    "cheville foot pied hand elbow coude uterus rectum kidney rein reins niere "
    "pancreas colon femur leg jambe moelle myelon larynx sacrum extremity body "
    "wholebody csp tsp lsp cerv thoracolumbar thoracolombaire dorsolombaire "
    "medullaire face facial faciale visage gesicht parotid parotide parotides parotis "
    "cavum pharynx oropharynx nasopharynx rhinopharynx halsweichteile orl mandible "
    "mandibule plexus scapula omoplate lung poumon lunge renal surrenales adrenal "
    "ovary ovaire bladder vessie blase"
)
REFORMAT_WORDS = _words(
    "mpr mprs mip minip reformat reformate reformats reformatted refo recon "
    "reconstruction reconstructed rekonstruktion vrt curved"
)
_SPACER_WORDS = _words(
    "ax axial axiale tra trans transv transverse transversal sag sagittal cor "
    "coronal 2d 3d w wi iso fs fat sat fatsat fsat spair spir dixon mdixon se tse "
    "fse ir ffe eg es gre ge fgre space spc cube vista mm ml cc p2 p3 p4 s2 s3 "
    "weighted pondere gewichtet seq sequence and et und avec mit with op rt "
    "dixonfat dixonphase"
)

_KIND_OF = {
    word: kind for kind, text in reversed(KIND_WORDS.items()) for word in text.split()
}
_VOCABULARY = (
    frozenset(_KIND_OF)
    | CONTRAST_WORDS
    | TIMING_WORDS
    | NO_CONTRAST_WORDS
    | NEGATORS
    | BODY_HEAD
    | BODY_PART_OF_HEAD
    | BODY_OTHER
    | REFORMAT_WORDS
    | _SPACER_WORDS
)
_T1_ITSELF = _words("t1 t1w t1wi t1c t1ce t1gd cet1 mprage bravo")
_TECHNIQUES = _words("drive haste balance moco rest flow cine ute noise arm dir merge")
"""Words that name a kind only where the text does not name T1 itself."""
_GLUED_SHORT = _words(
    "no ce dp fa pd ws ge es eg pas vor sub rho arm cor rein sin sem avt mdc pdc "
    "csp tsp lsp cerv orl face"
)
"""Short words that are not looked for inside longer ones."""

_AGENT = r"(?:gd|gad\w*|km|ce|inj\w*|iv|contrast\w*|kontrast\w*)"
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # what belongs together before separators are dropped
        (r"\bmp[ -]?rage\b", " mprage "),
        (r"\bt2\s?\*|\bt2[ -](?:star|etoile)\b", " t2star "),
        (r"\bdark[ -]fluid\b", " darkfluid "),
        (r"\b(?:phase[ -]contrast\w*|contraste de phase|phasenkontrast)", " mra "),
        (r"\bfield[ -]?map(?:ping)?\b", " fieldmap "),
        (r"\b(?:3|three)[ -]?(?:plane?s?|pl)\b", " localizer "),
        (r"\bt1[ -]?(?:rho|map\w*)\b", " map "),
        (
            r"\b(?:coil|sense|ref(?:erence)?) (?:ref(?:erence)?|scan|survey)\b",
            " calib ",
        ),
        (r"\b([clt])[ -]sp(?:ine)?\b", " spine "),
        (r"\bi v\b", "iv"),
        # the parts of a Dixon acquisition, and of MP2RAGE
        (r"\b(?:dixon|mdixon|ideal|flex)\b.*\b(?:f|fat)$", r"\g<0> dixonfat "),
        (r"^fat (?!sat|sup|sep)", " dixonfat "),
        (
            r"\b(?:dixon|mdixon|ideal|flex)\b.*\b(?:in|opp|out|ip|op)(?:[ -]?phase)?$",
            r"\g<0> dixonphase ",
        ),
        (r"^(?:in|out)[ -]?phase ", " dixonphase "),
        (r"\bmp2rage\b(?=.*\b(?:inv ?[12]|t1 images)\b)", " map "),
        (r"\b[sv](?=t[12]w)", ""),  # Philips: sT1W, vT1W
        (r"^sub-\d+ ", " "),  # a subject's number (BIDS)
        # a negation of something else than contrast agent
        (
            r"\b(?:sans|ohne|without|non?|w\s?/\s?o)[ -]"
            r"(?:fs|fat|fat[ -]?sat\w*|sat\w*)\b",
            " ",
        ),
        # both at once says nothing about this series
        (r"\bw\W{0,3}(?:and|und|et|u)?\W{0,3}w\s?[/\\]?\s?o\b", " both "),
        (r"\bwith(?:out)?\W{1,3}(?:and|or|/|&)\W{0,3}with(?:out)?\b", " both "),
        (r"\b(?:sans|avec)\W{1,3}(?:et|ou|puis)?\W{0,3}(?:sans|avec)\b", " both "),
        (r"\b(?:mit|ohne)\W{1,3}(?:und|oder|u)?\W{0,3}(?:mit|ohne)\b", " both "),
        (
            r"\b(?:pre|avant|vor)\W{1,3}(?:and|et|und|u)?\W{0,3}(?:post|apres|nach)\b",
            " both ",
        ),
        (r"\bc\s?[+-]\s?/?\s?c\s?[+-](?![a-z0-9])", " both "),
        (r"(?:\bc\s?)?(?:\+\s?/?\s?-|-\s?/?\s?\+)(?:\s?c\b)?", " both "),
        (r"\b(?:post|gd|gado|km)\s?-\s?(?:pre|nativ)\b", " subtraction "),
        # before and after an event which is no injection
        (
            r"\b(?:pre|post|avant|apres|vor|nach)[ -]?"
            r"(?:op\w*|rt|radio\w*|rx|srs|srt|chir\w*|chim\w*|chem\w*|surg\w*|treat\w*|"
            r"trait\w*|therap\w*|tx|biops\w*|proc\w*|perf\w*|gamma\w*|gk|tumou?r\w*|"
            r"resection|exerese|scan)\b",
            " ",
        ),
        (r"\b(?:fossa|fosse)[ -]post\b|\bpost[ -](?:fossa|fosse)\b", " "),
        (r"\bgd (?:champ|fov)\b", " "),
        (r"\bflow[ -]?comp\w*", " "),
        (r"\b(?:with|avec|mit)\s*$", " contrast "),
        # abbreviations that only the agent after them explains
        (
            rf"\b(?:s\s?/|ss\s|w\s?/?\s?out\s|w\s?o\s|[ov]\s?(?=km|gd|kontrast))"
            rf"\s?{_AGENT}(?![a-z])",
            " without ",
        ),
        (rf"\b{_AGENT}\s(?:non|neg\w*)\s*$", " without "),
        (rf"\bav\s{_AGENT}(?![a-z])", " both "),  # "avec" or "avant"
        (r"\bw\s?/\s?c(?![a-z])", " contrast "),
        (rf"\b{_AGENT}\s-\s*$", " without "),
        # plus and minus
        (r"\bw\s?[/\\]\s?o(?![a-z])", " without "),
        (rf"\+\s?(?:c|{_AGENT})(?![a-z])", " contrast "),
        (rf"\b(t1w?)?(?:c|{_AGENT})\s?\+", r" \1 contrast "),
        (rf"(?:^|(?<=[\s(\[]))-(?:c|{_AGENT})(?![a-z0-9])", " without "),
        (r"\b(t1w?)-c(?![a-z0-9])", r" \1 without "),
        (rf"\b(t1w?)?(?:c|{_AGENT})-(?![a-z0-9])", r" \1 without "),
        (r"\+\s?[)\]]?\s*$|[(\[]\+[)\]]|(?<=t1)\s?\+(?=\s)", " contrast "),
        (r"(?<!ventricule )(?<!ventricle )\biv\b(?! ventr)", " inj "),  # intravenous
    )
)


@dataclass(frozen=True)
class Wording:
    """What one text says.

    Attributes
    ----------
    kinds : frozenset of str
        Keys of ``KIND_WORDS`` that are named.
    contrast : bool or None
        Whether contrast agent was given; None where the text does not say, or says
        both.
    strong_contrast : bool
        An agent or injection is named, not only a time ("post").
    head, part_of_head, other_body : bool
        Parts of the body that are named.
    reformat : bool
        A reformat or projection is named.
    dixon_part : str or None
        ``fat``, or ``phase`` (in or opposed), where that image of a Dixon acquisition
        is named.
    """

    kinds: frozenset[str] = frozenset()
    contrast: bool | None = None
    strong_contrast: bool = False
    head: bool = False
    part_of_head: bool = False
    other_body: bool = False
    reformat: bool = False
    dixon_part: str | None = None

    @property
    def kind(self) -> str | None:
        """The kind that wins where several are named."""
        named = [kind for kind in KIND_WORDS if kind in self.kinds]
        if named[:1] == ["flair"] and "t1" in named and "t2" not in named:
            return "t1"  # "T1 FLAIR" is an inversion-recovery T1
        return named[0] if named else None


def _plain(text: str) -> str:
    """Lower case without accents, words parted by single spaces; signs are kept."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]|(?:CE|KM|GD)\b)", " ", text)
    # Siemens' name of MPRAGE
    text = re.sub(r"(?i)(?<![a-z0-9])t1w?[_ ]mpr(?=[_ ]|$)", "t1 mprage", text)
    decomposed = unicodedata.normalize("NFKD", text)
    ascii_only = "".join(c for c in decomposed if not unicodedata.combining(c))
    cleaned = ascii_only.casefold().replace("ß", "ss")
    return re.sub(r"[\s\x00-\x1f_.,;:^=|<>\"'#]+", " ", cleaned).strip()


def _split_glued(word: str) -> list[str]:
    """Split a word into known words and numbers, if it is nothing but these."""
    if word in _VOCABULARY:
        return [word]

    @cache
    def rest_of(start: int) -> tuple[str, ...] | None:
        if start == len(word):
            return ()
        number = re.compile(r"\d+").match(word, start)
        for end in range(len(word), start, -1):
            part = word[start:end]
            known = part in _VOCABULARY and part not in _GLUED_SHORT
            if known or (number and end == number.end()):
                rest = rest_of(end)
                if rest is not None:
                    return (part, *rest)
        return None

    return list(rest_of(0) or (word,)) if len(word) <= 64 else [word]


def _contrast(words: list[str]) -> tuple[bool | None, bool]:
    """Return whether contrast was given (None: unsaid), and whether it was named."""
    given = timed = absent = False
    for index, word in enumerate(words):
        before = words[max(0, index - 2) : index]
        negated = bool(NEGATORS.intersection(before))
        if word in CONTRAST_WORDS:
            given, absent = given or not negated, absent or negated
        elif word in TIMING_WORDS:
            timed = timed or not negated
        elif word in NO_CONTRAST_WORDS:
            absent = True
    if "both" in words or (given and absent):
        return None, False
    if absent:
        return (None, False) if timed else (False, False)
    return (True, given) if given or timed else (None, False)


def read_wording(text: str) -> Wording:
    """Read a description.

    Parameters
    ----------
    text : str
        Free text of any length (the first 256 characters count).

    Returns
    -------
    Wording
        What it says.
    """
    plain = _plain(text[:256])
    for pattern, replacement in _REWRITES:
        plain = pattern.sub(replacement, plain)
    words = [
        part for word in re.findall(r"[a-z0-9]+", plain) for part in _split_glued(word)
    ]
    contrast, strong = _contrast(words)
    present = frozenset(words)
    naming = present - _TECHNIQUES if present & _T1_ITSELF else present
    kinds = {_KIND_OF[word] for word in naming if word in _KIND_OF}
    if any(re.fullmatch(r"b\d{2,4}|b0", word) for word in present):
        kinds.add("diffusion")
    return Wording(
        kinds=frozenset(kinds),
        contrast=contrast,
        strong_contrast=strong,
        head=bool(present & BODY_HEAD),
        part_of_head=bool(present & BODY_PART_OF_HEAD),
        other_body=bool(present & BODY_OTHER),
        reformat=bool(present & REFORMAT_WORDS),
        dixon_part=next(
            (part for part in ("fat", "phase") if f"dixon{part}" in present), None
        ),
    )
