"""JetClass-II: Parquet files of jets of 188 classes (arXiv 2405.12972, the hub's jet-universe/jetclass2), MIT licence.

The names are JetClass's, and so are units and the sign of part_deta. The lists of generated particles (genpart_*,
aux_genpart_*) have lengths of their own and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from multiplet.data.columns import Column
from multiplet.data.formats.constituents import assemble, to_read
from multiplet.data.formats.jetclass_layout import BRANCH, JET, POINTS, read_layout
from multiplet.data.formats.parquet_tables import parquet_tables
from multiplet.data.formats.sources import STEP, Chunk

# In the order of the data set's own codes 0 … 187: X of two, of two Y of three or four, and QCD by its heavy hadrons.
LABELS = tuple(
    """
    X_bb X_cc X_ss X_qq X_bc X_cs X_bq X_cq X_sq X_gg X_ee X_mm X_tauhtaue X_tauhtaum X_tauhtauh
    X_YY_bbbb X_YY_bbcc X_YY_bbss X_YY_bbqq X_YY_bbgg X_YY_bbee X_YY_bbmm X_YY_bbtauhtaue X_YY_bbtauhtaum
    X_YY_bbtauhtauh X_YY_bbb X_YY_bbc X_YY_bbs X_YY_bbq X_YY_bbg X_YY_bbe X_YY_bbm
    X_YY_cccc X_YY_ccss X_YY_ccqq X_YY_ccgg X_YY_ccee X_YY_ccmm X_YY_cctauhtaue X_YY_cctauhtaum X_YY_cctauhtauh
    X_YY_ccb X_YY_ccc X_YY_ccs X_YY_ccq X_YY_ccg X_YY_cce X_YY_ccm
    X_YY_ssss X_YY_ssqq X_YY_ssgg X_YY_ssee X_YY_ssmm X_YY_sstauhtaue X_YY_sstauhtaum X_YY_sstauhtauh
    X_YY_ssb X_YY_ssc X_YY_sss X_YY_ssq X_YY_ssg X_YY_sse X_YY_ssm
    X_YY_qqqq X_YY_qqgg X_YY_qqee X_YY_qqmm X_YY_qqtauhtaue X_YY_qqtauhtaum X_YY_qqtauhtauh
    X_YY_qqb X_YY_qqc X_YY_qqs X_YY_qqq X_YY_qqg X_YY_qqe X_YY_qqm
    X_YY_gggg X_YY_ggee X_YY_ggmm X_YY_ggtauhtaue X_YY_ggtauhtaum X_YY_ggtauhtauh
    X_YY_ggb X_YY_ggc X_YY_ggs X_YY_ggq X_YY_ggg X_YY_gge X_YY_ggm
    X_YY_bee X_YY_cee X_YY_see X_YY_qee X_YY_gee X_YY_bmm X_YY_cmm X_YY_smm X_YY_qmm X_YY_gmm
    X_YY_btauhtaue X_YY_ctauhtaue X_YY_stauhtaue X_YY_qtauhtaue X_YY_gtauhtaue
    X_YY_btauhtaum X_YY_ctauhtaum X_YY_stauhtaum X_YY_qtauhtaum X_YY_gtauhtaum
    X_YY_btauhtauh X_YY_ctauhtauh X_YY_stauhtauh X_YY_qtauhtauh X_YY_gtauhtauh
    X_YY_qqqb X_YY_qqqc X_YY_qqqs X_YY_bbcq X_YY_ccbs X_YY_ccbq X_YY_ccsq X_YY_sscq X_YY_qqbc X_YY_qqbs X_YY_qqcs
    X_YY_bcsq X_YY_bcs X_YY_bcq X_YY_bsq X_YY_csq
    X_YY_bcev X_YY_csev X_YY_bqev X_YY_cqev X_YY_sqev X_YY_qqev
    X_YY_bcmv X_YY_csmv X_YY_bqmv X_YY_cqmv X_YY_sqmv X_YY_qqmv
    X_YY_bctauev X_YY_cstauev X_YY_bqtauev X_YY_cqtauev X_YY_sqtauev X_YY_qqtauev
    X_YY_bctaumv X_YY_cstaumv X_YY_bqtaumv X_YY_cqtaumv X_YY_sqtaumv X_YY_qqtaumv
    X_YY_bctauhv X_YY_cstauhv X_YY_bqtauhv X_YY_cqtauhv X_YY_sqtauhv X_YY_qqtauhv
    QCD_bbccss QCD_bbccs QCD_bbcc QCD_bbcss QCD_bbcs QCD_bbc QCD_bbss QCD_bbs QCD_bb
    QCD_bccss QCD_bccs QCD_bcc QCD_bcss QCD_bcs QCD_bc QCD_bss QCD_bs QCD_b
    QCD_ccss QCD_ccs QCD_cc QCD_css QCD_cs QCD_c QCD_ss QCD_s QCD_light
    """.split()  # noqa: SIM905
)

_GENERATED = (
    Column("genjet_pt", "GeV", "event", True, about="of the matched jet of generated particles"),
    Column("genjet_eta", "", "event", True),
    Column("genjet_phi", "rad", "event", True),
    Column("genjet_energy", "GeV", "event", True),
    Column("genjet_sdmass", "GeV", "event", True),
    Column("genjet_nparticles", "", "event", True, "int16"),
)
SCHEMA = (*POINTS, *JET, Column("label", "", "event", True, "int16", LABELS, "the class"), *_GENERATED)
_SOURCE = {column.name: BRANCH.get(column.name, column.name) for column in SCHEMA} | {"label": "jet_label"}


@dataclass(frozen=True)
class JetClass2:
    """Parquet files in JetClass-II's layout; truth that a file lacks is left out where files need not be `labelled`."""

    step: int = STEP
    labelled: bool = True

    def provenance(self) -> dict[str, str]:
        """Nothing but the format's name."""
        return {"format": "jetclass2"}

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All jets of one file, constituents in descending pT.

        Raises DataError for a file that is damaged, lacks a column or has one of another type, and for values that no
        jet has: missing, not finite, a negative energy, a label beyond 187.
        """
        with parquet_tables(source) as opened:
            table = opened.open("")
            schema = to_read(SCHEMA, self.labelled, {name for name, one in _SOURCE.items() if one in table.fields})
            for raw, _ in read_layout(table, {column.name: _SOURCE[column.name] for column in schema}, (), self.step):
                code = raw.values.get("label", np.zeros(0))
                if (bad := (code < 0) | (code >= len(LABELS))).any():
                    raw.refuse("label", "event", bad, f"is none of the codes 0 to {len(LABELS) - 1}")
                yield Chunk(assemble(raw, schema))
