import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.SocketChannel;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.websocketx.CloseWebSocketFrame;
import io.netty.handler.codec.http.websocketx.PingWebSocketFrame;
import io.netty.handler.codec.http.websocketx.PongWebSocketFrame;
import io.netty.handler.codec.http.websocketx.TextWebSocketFrame;
import io.netty.handler.codec.http.websocketx.Utf8FrameValidator;
import io.netty.handler.codec.http.websocketx.WebSocketFrame;
import io.netty.handler.codec.http.websocketx.WebSocketFrameAggregator;
import io.netty.handler.codec.http.websocketx.WebSocketServerHandshaker;
import io.netty.handler.codec.http.websocketx.WebSocketServerHandshakerFactory;
import io.netty.handler.timeout.IdleState;
import io.netty.handler.timeout.IdleStateEvent;
import io.netty.handler.timeout.IdleStateHandler;
import java.net.URI;
import java.net.URISyntaxException;
import java.time.Duration;
import java.util.List;

/**
 * A station gateway in Java: charging stations speak OCPP-J to it, and it speaks docs/contract.md to RabbitMQ.
 *
 * <p>It shows everything that docs/gateways.md asks for, in both directions, with nothing but that page, RabbitMQ's
 * client, Netty for WebSockets and Jackson's parser: requests of stations with publisher confirms, mandatory, on a
 * private reply queue; requests of the CSMS, one at a time for each station; and what becomes of both when a connection
 * is lost.
 *
 * <p>Session and Bridge are the RabbitMQ side, Station and this class the OCPP-J side; Keys makes routing keys. With
 * Java 17 and Debian's packages default-jdk-headless, librabbitmq-client-java, libnetty-java and libjackson2-core-java:
 *
 * <pre>
 * export CLASSPATH=classes:$(echo /usr/share/java/{amqp-client,slf4j-api,jackson-core,netty-*}.jar | tr ' ' :)
 * javac -d classes *.java
 * AMQP_URL=amqp://user:password@broker-1,amqp://user:password@broker-2 PORT=9000 TIMEOUT=30 java Gateway
 * </pre>
 *
 * <p>Elsewhere, Maven has them as com.rabbitmq:amqp-client, io.netty:netty-codec-http and
 * com.fasterxml.jackson.core:jackson-core. Stations connect to ws://HOST:PORT/STATION_ID; there are no passwords and no
 * TLS. `make examples` tests it.
 */
public final class Gateway {
    private static final String VERSIONS = "ocpp2.1,ocpp2.0.1,ocpp2.0,ocpp1.6";
    private static final int FRAME_SIZE = 1 << 20;
    /** Seconds without a sign of life: the socket is dead. */
    private static final int SILENCE = 90;

    public static void main(String[] arguments) throws Exception {
        var timeout = Duration.ofMillis((long) (Double.parseDouble(setting("TIMEOUT", "30")) * 1000));
        var bridge = new Bridge(List.of(setting("AMQP_URL", "amqp://guest:guest@localhost").split(",")), timeout);
        Bridge.THREADS.execute(bridge::run);

        var sockets = new NioEventLoopGroup();
        var server = new ServerBootstrap()
                .group(sockets)
                .channel(NioServerSocketChannel.class)
                .childHandler(new ChannelInitializer<SocketChannel>() {
                    @Override
                    protected void initChannel(SocketChannel socket) {
                        socket.pipeline().addLast(
                                new IdleStateHandler(SILENCE, SILENCE / 3, 0),
                                new HttpServerCodec(),
                                new HttpObjectAggregator(65_536),
                                new Handshake(bridge));
                    }
                })
                .bind(setting("HOST", "127.0.0.1"), Integer.parseInt(setting("PORT", "9000")))
                .sync()
                .channel();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            server.close(); // takes no new stations
            bridge.stop(Duration.ofSeconds(10));
            sockets.shutdownGracefully(0, 1, java.util.concurrent.TimeUnit.SECONDS).awaitUninterruptibly();
        }));
        server.closeFuture().sync();
    }

    private static String setting(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    /** The HTTP request that a WebSocket begins with: the path is the station's id. */
    private static final class Handshake extends SimpleChannelInboundHandler<FullHttpRequest> {
        private final Bridge bridge;

        Handshake(Bridge bridge) {
            this.bridge = bridge;
        }

        @Override
        protected void channelRead0(ChannelHandlerContext context, FullHttpRequest request) {
            String stationId = stationIdOf(request.uri());
            var factory = new WebSocketServerHandshakerFactory(request.uri(), VERSIONS, false, FRAME_SIZE);
            WebSocketServerHandshaker handshaker = factory.newHandshaker(request);
            if (stationId.isEmpty() || stationId.codePointCount(0, stationId.length()) > 255 || handshaker == null) {
                var refusal = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.NOT_FOUND);
                context.writeAndFlush(refusal).addListener(ChannelFutureListener.CLOSE);
                return;
            }
            var socket = context.channel();
            handshaker.handshake(socket, request).addListener(done -> {
                if (!done.isSuccess() || handshaker.selectedSubprotocol() == null) {
                    socket.close(); // OCPP-J: no version in common
                    return;
                }
                var station = new Station(bridge, socket, stationId, handshaker.selectedSubprotocol());
                context.pipeline()
                        .addBefore(context.name(), null, new Utf8FrameValidator())
                        .addBefore(context.name(), null, new WebSocketFrameAggregator(FRAME_SIZE))
                        .replace(this, null, new Frames(station));
            });
        }

        private static String stationIdOf(String uri) {
            try {
                String path = new URI(uri).getPath();
                return path == null ? "" : path.substring(1);
            } catch (URISyntaxException error) {
                return "";
            }
        }
    }

    /** What comes from a station's WebSocket. */
    private static final class Frames extends SimpleChannelInboundHandler<WebSocketFrame> {
        private final Station station;

        Frames(Station station) {
            this.station = station;
        }

        @Override
        protected void channelRead0(ChannelHandlerContext context, WebSocketFrame frame) {
            if (frame instanceof TextWebSocketFrame text) {
                station.onFrame(text.text());
            } else if (frame instanceof PingWebSocketFrame ping) {
                context.writeAndFlush(new PongWebSocketFrame(ping.content().retain()));
            } else if (frame instanceof CloseWebSocketFrame close) {
                context.writeAndFlush(close.retain()).addListener(ChannelFutureListener.CLOSE);
            }
        }

        @Override
        public void userEventTriggered(ChannelHandlerContext context, Object event) {
            if (event instanceof IdleStateEvent idle) {
                if (idle.state() == IdleState.READER_IDLE) {
                    context.close();
                } else {
                    context.writeAndFlush(new PingWebSocketFrame());
                }
            }
        }

        @Override
        public void channelInactive(ChannelHandlerContext context) {
            station.onClosed();
        }

        @Override
        public void exceptionCaught(ChannelHandlerContext context, Throwable error) {
            context.close();
        }
    }
}
