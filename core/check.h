/*
 * P2P_ASSERT states programmer errors and what must hold inside; it is there in the dev and test presets only.
 */
#ifndef P2PI_CHECK_H
#define P2PI_CHECK_H

#ifdef P2P_ENABLE_ASSERT
#  include <assert.h>
#  define P2P_ASSERT(condition) assert(condition)
#else
#  define P2P_ASSERT(condition) ((void)0)
#endif

#endif
