"""`python -m cvcore …`"""

from cvcore.cli import main
from cvcore.devices import leave_out_jax

if __name__ == "__main__":
    leave_out_jax()
    main()
