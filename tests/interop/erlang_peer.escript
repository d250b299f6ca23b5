#!/usr/bin/env escript
%% -*- erlang -*-
%% Erlang's {packet,4} is the framing that p2pnet uses, by people who never saw p2pnet.
%% Usage: erlang_peer.escript PORT

-mode(compile).

main([PortText]) ->
    Port = list_to_integer(PortText),
    Sizes = [0, 1, 2, 3, 4, 5, 255, 256, 65535, 65536, 1048576],
    Messages = [filled(Size) || Size <- Sizes],
    one_by_one(connect(Port), Messages),
    all_at_once(connect(Port), Messages),
    too_long(connect(Port)),
    one_by_one(connect(Port), [<<"still serving">>]),
    io:format("~b messages of 0 to ~b bytes came back intact, twice~n", [length(Sizes), lists:last(Sizes)]).

connect(Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port,
                                   [binary, {packet, 4}, {packet_size, 2097152}, {active, false}]),
    Socket.

filled(Size) ->
    << <<((I * 7 + Size) band 255)>> || I <- lists:seq(1, Size) >>.

one_by_one(Socket, Messages) ->
    lists:foreach(fun(Message) ->
                      ok = gen_tcp:send(Socket, Message),
                      {ok, Message} = gen_tcp:recv(Socket, 0, 20000)
                  end, Messages),
    ok = gen_tcp:close(Socket).

%% A process of its own sends, since the server stops reading while nobody reads from it.
all_at_once(Socket, Messages) ->
    spawn_link(fun() -> [ok = gen_tcp:send(Socket, Message) || Message <- Messages] end),
    [{ok, Message} = gen_tcp:recv(Socket, 0, 20000) || Message <- Messages],
    ok = gen_tcp:shutdown(Socket, write),
    {error, closed} = gen_tcp:recv(Socket, 0, 20000).

too_long(Socket) ->
    ok = inet:setopts(Socket, [{packet, raw}]),
    ok = gen_tcp:send(Socket, <<16#ffffffff:32, "no such message">>),
    {error, Reason} = gen_tcp:recv(Socket, 0, 20000),
    true = lists:member(Reason, [closed, econnreset]).
