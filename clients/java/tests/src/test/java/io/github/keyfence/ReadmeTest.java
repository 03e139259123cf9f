package io.github.keyfence;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.keyfence.testkit.FakeKeyfence;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfSystemProperty;
import org.junit.jupiter.api.io.TempDir;

/** The README's program runs word for word in a project of its own, as a user's would. */
final class ReadmeTest {
  private static final String POM =
      """
      <project>
        <modelVersion>4.0.0</modelVersion>
        <groupId>example.test</groupId>
        <artifactId>quickstart</artifactId>
        <version>1</version>
        <properties>
          <maven.compiler.source>17</maven.compiler.source>
          <maven.compiler.target>17</maven.compiler.target>
          <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
        </properties>
      %s
      </project>
      """;
  // For the parts about servlets, whose users have it.
  private static final String SERVLETS =
      """
        <dependency>
          <groupId>jakarta.servlet</groupId>
          <artifactId>jakarta.servlet-api</artifactId>
          <version>5.0.0</version>
          <scope>provided</scope>
        </dependency>
      </dependencies>
      """;
  private static final String PARTS =
      """
      import io.github.keyfence.KeyfenceClient;
      import io.github.keyfence.guard.GrpcGuard;
      import io.github.keyfence.guard.GuardOptions;
      import io.github.keyfence.guard.HttpGuard;
      import io.github.keyfence.v1.HttpAnswers;
      import io.grpc.BindableService;
      import io.grpc.Server;
      import io.grpc.ServerBuilder;
      import jakarta.servlet.Filter;

      final class Parts {
      """;
  private static final String PART =
      """
        void part%d(KeyfenceClient client, ServerBuilder<?> builder, BindableService servers)
            throws Exception {
      """;

  /** Needs the artefacts in the local repository: "make test-java" installs them. */
  @Test
  @EnabledIfSystemProperty(
      named = "keyfence.readme",
      matches = "true",
      disabledReason = "make test-java runs it")
  void theProgramOfTheReadmeRuns(@TempDir Path project) throws Exception {
    String readme = Files.readString(Path.of("..", "README.md"));
    String dependencies = fenced(readme, "xml").get(0);
    List<String> programs = fenced(readme, "java");
    assertTrue(programs.size() >= 3, "the README has no examples of guards");
    StringBuilder parts = new StringBuilder(PARTS);
    for (int index = 1; index < programs.size(); index++) {
      // The other examples are parts of programs: they have to compile.
      parts.append(PART.formatted(index)).append(programs.get(index)).append("}\n");
    }
    Path sources = Files.createDirectories(project.resolve("src/main/java"));
    Files.writeString(sources.resolve("Quickstart.java"), programs.get(0));
    Files.writeString(sources.resolve("Parts.java"), parts.append("}\n").toString());
    int end = dependencies.lastIndexOf("</dependencies>");
    Files.writeString(
        project.resolve("pom.xml"), POM.formatted(dependencies.substring(0, end) + SERVLETS));
    run(
        project,
        Map.of(),
        "mvn",
        "--batch-mode",
        "--quiet",
        "compile",
        "org.apache.maven.plugins:maven-dependency-plugin:3.9.0:build-classpath",
        "-Dmdep.outputFile=classpath.txt");
    String classpath =
        Files.readString(project.resolve("classpath.txt")).strip()
            + File.pathSeparator
            + project.resolve("target/classes");
    assertEquals(
        1, Pattern.compile("protobuf-java-").splitAsStream(classpath).count() - 1, classpath);
    try (FakeKeyfence server = FakeKeyfence.start(FakeKeyfence.keyspace("demo", "vps:read"))) {
      String said =
          run(
              project,
              Map.of(
                  "KEYFENCE_TARGET", server.target(),
                  "KEYFENCE_TOKEN", FakeKeyfence.TOKEN.reveal()),
              "java",
              "-cp",
              classpath,
              "Quickstart");
      assertEquals("before: REASON_OK\nafter: REASON_KEY_REVOKED\n", said);
    }
  }

  private static List<String> fenced(String readme, String language) {
    Matcher found =
        Pattern.compile("^```" + language + "\n(.*?)^```$", Pattern.MULTILINE | Pattern.DOTALL)
            .matcher(readme);
    List<String> blocks = new ArrayList<>();
    while (found.find()) {
      blocks.add(found.group(1));
    }
    return blocks;
  }

  private static String run(Path directory, Map<String, String> environment, String... command)
      throws IOException, InterruptedException {
    ProcessBuilder builder =
        new ProcessBuilder(command).directory(directory.toFile()).redirectErrorStream(true);
    builder.environment().putAll(environment);
    Process process = builder.start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), said);
    return said;
  }
}
