"""The public names of quantlab.market."""

from . import (
    bybit as bybit,
    candles as candles,
    features as features,
    replay as replay,
    synthetic as synthetic,
    times as times,
)
from .bybit import (
    ApiError as ApiError,
    BadPayloadError as BadPayloadError,
    BybitError as BybitError,
    ForbiddenError as ForbiddenError,
    GeoBlockedError as GeoBlockedError,
    IPBannedError as IPBannedError,
    NetworkError as NetworkError,
    fetch_klines as fetch_klines,
    load_candles as load_candles,
)
from .candles import (
    CacheError as CacheError,
    CandleError as CandleError,
    Candles as Candles,
    Source as Source,
    load_cache as load_cache,
    save_cache as save_cache,
)
from .features import (
    FeatureScaler as FeatureScaler,
    Features as Features,
    baseline_rules as baseline_rules,
    candle_features as candle_features,
    chronological_split as chronological_split,
    simple_rules as simple_rules,
)
from .replay import Replay as Replay
from .synthetic import synthetic_candles as synthetic_candles
from .times import moment as moment
