/**
 * @file p2pnet/p2pnet.h
 * @brief Everything a program needs. Backend authors also include <p2pnet/backend.h>.
 */
#ifndef P2PNET_P2PNET_H
#define P2PNET_P2PNET_H

#include <p2pnet/base.h>
#include <p2pnet/error.h>
#include <p2pnet/event_loop.h>
#include <p2pnet/message.h>
#include <p2pnet/socket.h>
#include <p2pnet/sys.h>
#include <p2pnet/timer.h>
#include <p2pnet/watch.h>

#endif
