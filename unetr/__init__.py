"""The network and everything that needs torch; knows no web, archive or database.

Importing the package itself loads no torch. It only asks OpenMP, before torch starts
it, to let idle threads sleep instead of spin: on a machine whose cores are also wanted
by others, spinning made one window more than ten times slower (measured).
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
